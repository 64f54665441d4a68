// What a browser's page tells of itself.
/** The events of the page that this code runs in; outside of a page there are none. */
export const browserEvents = (on) => {
    if (typeof window === "undefined" || typeof document === "undefined") {
        return () => { };
    }
    const stop = new AbortController();
    const listen = (target, type, run) => target.addEventListener(type, run, { signal: stop.signal });
    listen(window, "online", () => on("online"));
    listen(window, "offline", () => on("offline"));
    listen(document, "visibilitychange", () => {
        if (document.visibilityState === "visible") {
            on("visible");
        }
    });
    listen(document, "resume", () => on("visible")); // a frozen tab goes on
    listen(window, "pageshow", (e) => {
        if (e.persisted) {
            on("visible"); // back from the back/forward cache, where links do not live
        }
    });
    return () => stop.abort();
};
