SELECT sum(campaign), count(*), avg(width) FROM visits;
