-- What people are told, and which channel has carried it. A row is written before anything is sent.
create table tidemark.message (
    id bigint generated always as identity primary key,
    stream text not null,
    event text not null,
    about text not null,
    title text not null,
    sentences jsonb not null,
    links jsonb not null,
    happened_at timestamptz not null,
    created_at timestamptz not null default now(),
    unique (stream, about)
);

create table tidemark.delivery (
    message_id bigint not null references tidemark.message on delete cascade,
    channel text not null,
    tries integer not null,
    delivered_at timestamptz,
    error text,
    primary key (message_id, channel)
);
