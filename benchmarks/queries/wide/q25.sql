SELECT phrase FROM visits WHERE phrase <> '' ORDER BY at, visit_id LIMIT 10;
