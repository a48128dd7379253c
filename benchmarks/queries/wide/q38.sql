SELECT title, count(*) AS views FROM visits
WHERE site_id = 0 AND day BETWEEN DATE '2024-07-01' AND DATE '2024-07-31' AND download = 0 AND refreshed = 0 AND title <> ''
GROUP BY title ORDER BY views DESC, title LIMIT 10;
