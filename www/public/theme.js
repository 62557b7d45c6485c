// Before the page is drawn, so that nobody sees the other theme flash by.
document.documentElement.dataset.theme = localStorage.getItem('landfall-demo:theme') ?? 'auto';
