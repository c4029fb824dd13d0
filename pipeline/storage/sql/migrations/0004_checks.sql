-- What a check measured beside its test: size and cost of the drift, its likely cause, the classes that drifted, and what
-- its decision took from the checks before it. Checks made before have none of it; null says so.
alter table tidemark.drift_check add column measured jsonb;
