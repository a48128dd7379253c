SELECT source, engine, campaign, CASE WHEN engine = 0 AND campaign = 0 THEN referer ELSE '' END AS origin, url, count(*) AS views FROM visits
WHERE site_id = 0 AND day BETWEEN DATE '2024-07-01' AND DATE '2024-07-31' AND refreshed = 0
GROUP BY source, engine, campaign, origin, url ORDER BY views DESC, source, engine, campaign, origin, url LIMIT 10 OFFSET 100;
