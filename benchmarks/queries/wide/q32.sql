SELECT visit_id, address, count(*) AS n, sum(refreshed), avg(width)
FROM visits WHERE phrase <> '' GROUP BY visit_id, address ORDER BY n DESC, visit_id, address LIMIT 10;
