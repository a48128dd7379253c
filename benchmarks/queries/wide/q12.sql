SELECT device, model, count(DISTINCT user_id) AS users
FROM visits WHERE model <> '' GROUP BY device, model ORDER BY users DESC, device, model LIMIT 10;
