SELECT engine, address, count(*) AS n, sum(refreshed), avg(width)
FROM visits WHERE phrase <> '' GROUP BY engine, address ORDER BY n DESC, engine, address LIMIT 10;
