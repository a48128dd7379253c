SELECT phrase FROM visits WHERE phrase <> '' ORDER BY phrase LIMIT 10;
