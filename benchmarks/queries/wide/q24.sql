SELECT * FROM visits WHERE url LIKE '%shop%' ORDER BY at, visit_id LIMIT 10;
