-- What people read: the champion's predictions, without asking the registry.

-- The version that is live, as the catalogue last heard it. The registry's alias `champion` is the truth; this repeats it
-- for views: written right after the alias moved, and again by every scoring run.
create table tidemark.champion (
    stream text primary key,
    model_version integer not null,
    noted_at timestamptz not null default now()
);

insert into tidemark.champion (stream, model_version)
select distinct on (stream) stream, model_version
from tidemark.promotion
where done_at is not null
order by stream, id desc;

-- The champion's prediction for each live image that it has one for. One row an image: of several keys the first stands
-- here. Of the checks of its batch the newest.
create view tidemark.current_prediction as
select i.stream, i.id as image_id, i.key, i.sha256, p.model_version, p.label as prediction, p.confidence, p.top_k,
       p.predicted_at, i.label, i.split, i.batch_id, c.id as check_id, c.decision as check_decision
from tidemark.live_image i
join tidemark.champion m on m.stream = i.stream
join tidemark.prediction p on p.image_id = i.id and p.model_version = m.model_version
left join lateral (
    select d.id, d.decision
    from tidemark.drift_check d
    where d.stream = i.stream and d.batch_ids @> array[i.batch_id]
    order by d.created_at desc, d.id desc
    limit 1
) c on true;
