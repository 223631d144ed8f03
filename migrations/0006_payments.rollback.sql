DROP TABLE inbox, deposits;
