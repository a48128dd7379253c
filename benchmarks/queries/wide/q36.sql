SELECT address, address - 1, address - 2, address - 3, count(*) AS n
FROM visits GROUP BY address, address - 1, address - 2, address - 3 ORDER BY n DESC, address LIMIT 10;
