-- What scoring has done and how fast: the next plan makes its shards so large that each takes the minutes it shall.
create table tidemark.scored_shard (
    id bigint generated always as identity primary key,
    stream text not null,
    model_version integer not null,
    first_id bigint not null,
    last_id bigint not null,
    predictions integer not null,
    failures integer not null,
    seconds double precision not null check (seconds > 0),
    run text,
    finished_at timestamptz not null default now()
);
create index scored_shard_by_stream on tidemark.scored_shard (stream, id);
