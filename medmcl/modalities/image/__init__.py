"""Images and volumes: files, checks, geometry, intensities, augmentation."""
