-- name: described_images
-- What a report says of images besides their pixels; also of those that no key leads to any more.
select id, label, coalesce(near_group, id) as near_group, brightness, contrast, sharpness, colourfulness, entropy,
       width, height, bytes
from tidemark.image
where stream = %(stream)s and id = any(%(ids)s)
order by id;

-- name: earlier_checks
-- The newest checks by one model version (null: by none), apart from one of them.
select id, images, p_value, alpha, decision, created_at,
       (measured #>> '{expected,accuracy}')::double precision as expected,
       (measured #>> '{measured,accuracy}')::double precision as measured
from tidemark.drift_check
where stream = %(stream)s and model_version is not distinct from %(version)s and id <> %(check)s
order by created_at desc, id desc
limit %(limit)s;
