"""ECG: settings, signal steps, beats, features, augmentation."""
