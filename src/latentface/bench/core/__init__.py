"""What every table needs: variants, tasks, the runner, records, statistics, the protocol."""
