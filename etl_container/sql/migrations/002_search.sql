-- Full-text search over what people wrote: the dictionary of a language, and the words of a text. The tables of documents,
-- e-mails, images and sounds have an index over lake.words(…) each; its rows come and go with the table's.

create function lake.dictionary(language text) returns regconfig
language sql immutable parallel safe as $$
    select case language
        when 'ar' then 'pg_catalog.arabic'::regconfig
        when 'da' then 'pg_catalog.danish'::regconfig
        when 'de' then 'pg_catalog.german'::regconfig
        when 'el' then 'pg_catalog.greek'::regconfig
        when 'en' then 'pg_catalog.english'::regconfig
        when 'es' then 'pg_catalog.spanish'::regconfig
        when 'fi' then 'pg_catalog.finnish'::regconfig
        when 'fr' then 'pg_catalog.french'::regconfig
        when 'ga' then 'pg_catalog.irish'::regconfig
        when 'hu' then 'pg_catalog.hungarian'::regconfig
        when 'id' then 'pg_catalog.indonesian'::regconfig
        when 'it' then 'pg_catalog.italian'::regconfig
        when 'lt' then 'pg_catalog.lithuanian'::regconfig
        when 'ne' then 'pg_catalog.nepali'::regconfig
        when 'nl' then 'pg_catalog.dutch'::regconfig
        when 'no' then 'pg_catalog.norwegian'::regconfig
        when 'pt' then 'pg_catalog.portuguese'::regconfig
        when 'ro' then 'pg_catalog.romanian'::regconfig
        when 'ru' then 'pg_catalog.russian'::regconfig
        when 'sv' then 'pg_catalog.swedish'::regconfig
        when 'ta' then 'pg_catalog.tamil'::regconfig
        when 'tr' then 'pg_catalog.turkish'::regconfig
        else 'pg_catalog.simple'::regconfig
    end
$$;
comment on function lake.dictionary(text) is 'The text search configuration for an ISO 639-1 language';

-- A tsvector holds 1 MB at most (https://www.postgresql.org/docs/17/textsearch-limitations.html): the first 200,000
-- characters stay below that in any script.
create function lake.words(language text, heading text, content text) returns tsvector
language sql immutable parallel safe as $$
    select setweight(to_tsvector(lake.dictionary(language), left(coalesce(heading, ''), 10000)), 'A')
        || setweight(to_tsvector(lake.dictionary(language), left(coalesce(content, ''), 200000)), 'B')
$$;
comment on function lake.words(text, text, text) is 'What search finds a text by; its heading weighs more';

create function lake.asked(language text, question text) returns tsquery
language sql immutable parallel safe as $$ select websearch_to_tsquery(lake.dictionary(language), question) $$;
comment on function lake.asked(text, text) is 'A question (words, "a phrase", or, -not) as the texts of a language answer it';

create function lake.asked_in_any(question text) returns tsquery
language sql stable parallel safe as $$
    select lake.asked(null, question) || lake.asked('ar', question) || lake.asked('da', question)
        || lake.asked('de', question) || lake.asked('el', question) || lake.asked('en', question)
        || lake.asked('es', question) || lake.asked('fi', question) || lake.asked('fr', question)
        || lake.asked('ga', question) || lake.asked('hu', question) || lake.asked('id', question)
        || lake.asked('it', question) || lake.asked('lt', question) || lake.asked('ne', question)
        || lake.asked('nl', question) || lake.asked('no', question) || lake.asked('pt', question)
        || lake.asked('ro', question) || lake.asked('ru', question) || lake.asked('sv', question)
        || lake.asked('ta', question) || lake.asked('tr', question)
$$;
comment on function lake.asked_in_any(text) is 'A question as texts of any language answer it: what the index is asked';
