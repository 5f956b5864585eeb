// Starts the reference. Nothing of it leaves this origin: no fonts, no telemetry, no proxy, no assistant; keys are kept by
// nobody.
const reference = document.getElementById('reference');
Scalar.createApiReference(reference, {
  url: reference.dataset.openapi,
  layout: 'modern',
  theme: 'default',
  withDefaultFonts: false,
  telemetry: false,
  agent: { disabled: true },
  mcp: { disabled: true },
  hideClientButton: true,
  showDeveloperTools: 'never',
  documentDownloadType: 'both',
  operationTitleSource: 'summary',
  defaultOpenFirstTag: true,
  hideModels: false,
  authentication: { preferredSecurityScheme: 'apiKey' },
  persistAuth: false,
  defaultHttpClient: { targetKey: 'shell', clientKey: 'curl' },
  onLoaded: () => document.getElementById('waiting')?.remove(),
});
