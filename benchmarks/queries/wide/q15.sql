SELECT engine, phrase, count(*) AS n FROM visits WHERE phrase <> '' GROUP BY engine, phrase ORDER BY n DESC, engine, phrase LIMIT 10;
