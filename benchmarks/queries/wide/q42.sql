SELECT width, height, count(*) AS views FROM visits
WHERE site_id = 0 AND day BETWEEN DATE '2024-07-01' AND DATE '2024-07-31' AND refreshed = 0 AND download = 0
GROUP BY width, height ORDER BY views DESC, width, height LIMIT 10 OFFSET 10;
