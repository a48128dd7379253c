SELECT count(*) FROM visits WHERE url LIKE '%shop%';
