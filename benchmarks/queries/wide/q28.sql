SELECT site_id, avg(length(url)) AS length, count(*) AS n
FROM visits WHERE url <> '' GROUP BY site_id HAVING count(*) > 1000 ORDER BY length DESC, site_id LIMIT 25;
