"""Many trainings at once, on Ray: what a sweep is (plan), carrying it out (run, worker), and where runs are kept."""
