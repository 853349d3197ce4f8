"""Is an instruction's effect superficial? Findings, the scorecard and its verdict."""
