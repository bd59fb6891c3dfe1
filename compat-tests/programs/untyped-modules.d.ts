// Express 4 and its session middleware come without types; the sample application needs none.

declare module 'express' {
  // biome-ignore lint/suspicious/noExplicitAny: there are no types to use
  const express: any;
  export default express;
}

declare module 'express-session' {
  // biome-ignore lint/suspicious/noExplicitAny: there are no types to use
  const session: any;
  export default session;
}
