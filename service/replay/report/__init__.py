"""One HTML file that shows a backtest: no network, no library, safe under a strict content security policy."""
