"""From a cohort to prepared arrays, batches and views."""
