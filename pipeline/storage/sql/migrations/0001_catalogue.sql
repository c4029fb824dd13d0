-- The catalogue: what the store holds, what was tested, what was trained, what was predicted.

-- The images that one ingest run took in. An open batch belongs to a run that is under way or was killed;
-- the next run goes on with it.
create table tidemark.batch (
    id bigint generated always as identity primary key,
    stream text not null,
    status text not null default 'open' check (status in ('open', 'closed')),
    accepted integer not null default 0,
    quarantined integer not null default 0,
    manifest_key text,
    run text,
    started_at timestamptz not null default now(),
    closed_at timestamptz
);
create unique index batch_one_open on tidemark.batch (stream) where status = 'open';
create index batch_by_stream on tidemark.batch (stream, id);

-- An accepted image, known by its content. `id` grows with time, so ranges of it make shards.
create table tidemark.image (
    id bigint generated always as identity primary key,
    stream text not null,
    sha256 text not null check (sha256 ~ '^[0-9a-f]{64}$'),
    batch_id bigint not null references tidemark.batch,
    split text not null check (split in ('training', 'holdout')),
    label text,
    width integer not null,
    height integer not null,
    bytes bigint not null,
    format text not null,
    brightness real not null,
    contrast real not null,
    sharpness real not null,
    created_at timestamptz not null default now(),
    unique (stream, sha256)
);
create index image_by_batch on tidemark.image (batch_id);
create index image_by_stream on tidemark.image (stream, id);

-- A key of the store as ingest last saw it. Several keys may lead to one image; a quarantined key leads to none; a
-- key that has gone from the store keeps its row.
create table tidemark.object (
    stream text not null,
    key text not null,
    etag text not null,
    bytes bigint not null,
    last_modified timestamptz not null,
    status text not null check (status in ('accepted', 'quarantined', 'gone')),
    reason_code text,
    reason text,
    sha256 text,
    image_id bigint references tidemark.image,
    batch_id bigint not null references tidemark.batch,
    seen_at timestamptz not null default now(),
    primary key (stream, key),
    check (status <> 'accepted' or image_id is not null),
    check (status <> 'quarantined' or (reason_code is not null and image_id is null))
);
create index object_by_image on tidemark.object (image_id);
create index object_by_batch on tidemark.object (batch_id);

-- Images of closed batches that at least one key of the store still leads to, with one such key.
create view tidemark.live_image as
select i.*, o.key
from tidemark.image i
join tidemark.batch b on b.id = i.batch_id and b.status = 'closed'
join lateral (
    select key from tidemark.object where image_id = i.id and status = 'accepted' order by key limit 1
) o on true;

-- One drift test of one batch (or of several small ones together) with its decision.
create table tidemark.drift_check (
    id text primary key,
    stream text not null,
    batch_ids bigint[] not null,
    model_version integer,
    test text,
    images integer not null,
    reference_images integer,
    statistic double precision,
    threshold double precision,
    p_value double precision,
    alpha double precision,
    decision text not null check (decision in ('clean', 'watch', 'alarm', 'pending')),
    reasons jsonb not null,
    report_key text not null,
    run text,
    created_at timestamptz not null default now()
);
create index drift_check_by_stream on tidemark.drift_check (stream, created_at);
create index drift_check_by_batch on tidemark.drift_check using gin (batch_ids);

-- One training run and what came of it.
create table tidemark.retraining (
    id bigint generated always as identity primary key,
    stream text not null,
    reason text not null,
    check_id text references tidemark.drift_check,
    status text not null default 'running'
        check (status in ('running', 'promoted', 'rejected', 'unchanged', 'failed')),
    snapshot_key text,
    mlflow_run_id text,
    model_version integer,
    evaluation jsonb,
    gate jsonb,
    run text,
    started_at timestamptz not null default now(),
    finished_at timestamptz
);
create index retraining_by_stream on tidemark.retraining (stream, id);

-- Who was put in charge when. The registry's alias decides what is live; this is its history. A row without
-- `done_at` was intended and not completed.
create table tidemark.promotion (
    id bigint generated always as identity primary key,
    stream text not null,
    model_version integer not null,
    previous_version integer,
    kind text not null check (kind in ('promotion', 'rollback')),
    reason text not null,
    retraining_id bigint references tidemark.retraining,
    intended_at timestamptz not null default now(),
    done_at timestamptz
);
create index promotion_by_stream on tidemark.promotion (stream, id);

-- What one model version says of one image.
create table tidemark.prediction (
    image_id bigint not null references tidemark.image,
    model_version integer not null,
    stream text not null,
    label text not null,
    confidence real not null,
    top_k jsonb not null,
    predicted_at timestamptz not null default now(),
    primary key (image_id, model_version)
);
create index prediction_by_version on tidemark.prediction (stream, model_version);

-- An accepted image that could not be read when it was to be scored. Gone once it is predicted.
create table tidemark.prediction_failure (
    image_id bigint not null references tidemark.image,
    model_version integer not null,
    stream text not null,
    reason text not null,
    failed_at timestamptz not null default now(),
    primary key (image_id, model_version)
);
