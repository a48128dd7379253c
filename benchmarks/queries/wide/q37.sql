SELECT url, count(*) AS views FROM visits
WHERE site_id = 0 AND day BETWEEN DATE '2024-07-01' AND DATE '2024-07-31' AND download = 0 AND refreshed = 0 AND url <> ''
GROUP BY url ORDER BY views DESC, url LIMIT 10;
