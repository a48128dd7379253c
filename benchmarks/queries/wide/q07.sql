SELECT min(day), max(day) FROM visits;
