DROP TABLE platform.lineage, platform.catalog_refreshes, platform.catalog_tables, platform.data_catalogs, platform.data_sources;
