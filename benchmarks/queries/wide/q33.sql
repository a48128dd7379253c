SELECT visit_id, address, count(*) AS n, sum(refreshed), avg(width)
FROM visits GROUP BY visit_id, address ORDER BY n DESC, visit_id, address LIMIT 10;
