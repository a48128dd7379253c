SELECT model, count(DISTINCT user_id) AS users FROM visits WHERE model <> '' GROUP BY model ORDER BY users DESC, model LIMIT 10;
