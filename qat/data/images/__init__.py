"""Images: files, boxes, augmentation."""
