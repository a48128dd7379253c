SELECT 1 AS one, url, count(*) AS n FROM visits GROUP BY one, url ORDER BY n DESC, url LIMIT 10;
