SELECT avg(user_id) FROM visits;
