SELECT url_hash, day, count(*) AS views FROM visits
WHERE site_id = 0 AND day BETWEEN DATE '2024-07-01' AND DATE '2024-07-31' AND refreshed = 0 AND source IN (1, 6)
GROUP BY url_hash, day ORDER BY views DESC, url_hash, day LIMIT 10 OFFSET 10;
