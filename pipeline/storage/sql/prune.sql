-- name: versions_in_use
-- Model versions that somebody may still ask for: in charge now or since a time, the one before, what is being trained or
-- waits, what was made or has tested images since that time. The newest is among them: the next retraining compares with
-- it.
select model_version as version from tidemark.champion where stream = %(stream)s
union
select model_version from (
    select model_version, lead(done_at) over (order by id) as until
    from tidemark.promotion where stream = %(stream)s and done_at is not null
) charges
where until is null or until >= %(before)s
union
select unnest(array[model_version, previous_version]) from tidemark.promotion
where stream = %(stream)s and (
    done_at is null
    or id = (select max(id) from tidemark.promotion where stream = %(stream)s and done_at is not null)
)
union
select previous_version from tidemark.promotion
where id = (
    select max(p.id) from tidemark.promotion p
    join tidemark.champion c on c.stream = p.stream and c.model_version = p.model_version
    where p.stream = %(stream)s and p.done_at is not null
)
union
select model_version from tidemark.retraining
where stream = %(stream)s and (
    status in ('running', 'awaiting approval')
    or (status = 'waiting for labels' and finished_at is null)
    or started_at >= %(before)s
    or model_version = (select max(model_version) from tidemark.retraining where stream = %(stream)s)
)
union
select model_version from tidemark.drift_check where stream = %(stream)s and created_at >= %(before)s;

-- name: checks
-- Every check of a stream, and whether its report may go: old, not the newest, not waited for, and not what one of these
-- versions was trained for.
select c.id,
       c.created_at < %(before)s
       and c.id <> (
           select id from tidemark.drift_check where stream = %(stream)s order by created_at desc, id desc limit 1
       )
       and not exists (
           select 1 from tidemark.retraining r
           where r.check_id = c.id and (
               r.status in ('running', 'awaiting approval')
               or (r.status = 'waiting for labels' and r.finished_at is null)
               or r.model_version = any(%(versions)s::integer[])
           )
       ) as old
from tidemark.drift_check c
where c.stream = %(stream)s;

-- name: note
insert into tidemark.pruned (stream, kind, about) values (%(stream)s, %(kind)s, %(about)s) on conflict do nothing;

-- name: noted
select about, pruned_at from tidemark.pruned
where stream = %(stream)s and kind = %(kind)s and (%(about)s::text is null or about = %(about)s);

-- name: predicted_versions
select model_version as version, count(*) as rows from tidemark.prediction
where stream = %(stream)s and model_version = any(%(versions)s::integer[])
group by model_version order by model_version;

-- name: delete_predictions
-- A part of a version's rows, by where they lie: no row of a version moves once it is written.
delete from tidemark.prediction
where ctid = any(array(
    select ctid from tidemark.prediction where stream = %(stream)s and model_version = %(version)s limit %(limit)s
));

-- name: delete_failures
delete from tidemark.prediction_failure where stream = %(stream)s and model_version = %(version)s;
