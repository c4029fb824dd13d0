-- What retention has taken away, so that nothing here points at it without knowing. A row is written before anything is
-- deleted.
create table tidemark.pruned (
    stream text not null,
    kind text not null check (kind in ('report', 'model', 'predictions')),
    about text not null, -- a check's id, or a model version's number
    pruned_at timestamptz not null default now(),
    primary key (stream, kind, about)
);
