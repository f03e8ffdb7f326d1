"""What a site brings along from Engage: its files read, every key of them accounted for, and turned into our configuration."""
