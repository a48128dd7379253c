SELECT regexp_replace(referer, '^https?://(?:www\.)?([^/]+)/.*$', '\1') AS host, avg(length(referer)) AS length, count(*) AS n, min(referer)
FROM visits WHERE referer <> '' GROUP BY host HAVING count(*) > 1000 ORDER BY length DESC, host LIMIT 25;
