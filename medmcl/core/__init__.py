"""What every other package stands on: values, contracts, configuration, errors, randomness."""
