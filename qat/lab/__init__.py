"""The laboratory: experiments, sweeps and searches of them, and what they leave."""
