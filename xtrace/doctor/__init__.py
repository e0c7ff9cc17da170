"""`--doctor`: what would keep a run from working here, or from seeing everything. Changes nothing."""
