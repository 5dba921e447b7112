"""ECG files in any usual format."""
