-- name: expect_every_row
-- A cursor is planned for its first tenth unless told otherwise.
set local cursor_tuple_fraction = 1.0;

-- name: predictions
-- As the view current_prediction, for any version; the newest check of every batch is looked up once.
with checked as (
    select distinct on (batch) batch, id, decision
    from (
        select unnest(batch_ids) as batch, id, decision, created_at
        from tidemark.drift_check where stream = %(stream)s
    ) listed
    order by batch, created_at desc, id desc
)
select i.stream, i.id as image_id, i.key, i.sha256, p.model_version, p.label as prediction, p.confidence, p.top_k,
       p.predicted_at, i.label, i.split, i.batch_id, c.id as check_id, c.decision as check_decision
from tidemark.live_image i
join tidemark.prediction p on p.image_id = i.id and p.model_version = %(version)s
left join checked c on c.batch = i.batch_id
where i.stream = %(stream)s and (%(since)s::timestamptz is null or p.predicted_at >= %(since)s)
order by i.id;

-- name: has_predictions
select exists (
    select 1 from tidemark.prediction where stream = %(stream)s and model_version = %(version)s
) as found;
