SELECT user_id FROM visits WHERE user_id = 4711;
