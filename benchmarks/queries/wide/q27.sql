SELECT phrase FROM visits WHERE phrase <> '' ORDER BY at, phrase, visit_id LIMIT 10;
