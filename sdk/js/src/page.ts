// What a browser's page tells of itself.

/** What happens to the page or its network. */
export type PageEvent =
  | "online" // the network is back, for many clients at once
  | "offline" // the network may be gone
  | "visible"; // a person looks at the page again, or it was woken

/** Tells `on` of page events until the returned function is called. */
export type PageEvents = (on: (event: PageEvent) => void) => () => void;

/** The events of the page that this code runs in; outside of a page there are none. */
export const browserEvents: PageEvents = (on) => {
  if (typeof window === "undefined" || typeof document === "undefined") {
    return () => {};
  }
  const stop = new AbortController();
  const listen = (target: EventTarget, type: string, run: (e: Event) => void) => target.addEventListener(type, run, { signal: stop.signal });
  listen(window, "online", () => on("online"));
  listen(window, "offline", () => on("offline"));
  listen(document, "visibilitychange", () => {
    if (document.visibilityState === "visible") {
      on("visible");
    }
  });
  listen(document, "resume", () => on("visible")); // a frozen tab goes on
  listen(window, "pageshow", (e) => {
    if ((e as PageTransitionEvent).persisted) {
      on("visible"); // back from the back/forward cache, where links do not live
    }
  });
  return () => stop.abort();
};
