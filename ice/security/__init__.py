"""Who may speak, and what nobody else may read: certificates, the site's authority, TLS contexts, bundles."""
