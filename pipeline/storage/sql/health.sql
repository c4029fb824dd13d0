-- name: patience
set statement_timeout = '10s';

-- name: server
select current_setting('server_version') as version,
       current_setting('server_version_num')::integer as number,
       current_user::text as role,
       current_setting('transaction_read_only') = 'on' as read_only,
       has_database_privilege(current_database(), 'temporary') as may_stage;

-- name: clock
select clock_timestamp();

-- name: closed_tables
-- Tables and views that the role cannot work with; all of them, where it may not even enter the schema.
select c.relname as name
from pg_class c
join pg_namespace n on n.oid = c.relnamespace
where n.nspname = 'tidemark' and c.relkind in ('r', 'p', 'v')
  and not (
      has_schema_privilege(n.oid, 'usage')
      and has_table_privilege(c.oid, 'select')
      and (
          c.relkind = 'v'
          or has_table_privilege(c.oid, 'insert')
          and has_table_privilege(c.oid, 'update')
          and has_table_privilege(c.oid, 'delete')
      )
  )
order by c.relname;

-- name: owns_schema
select pg_has_role(nspowner, 'usage') as owns from pg_namespace where nspname = 'tidemark';
