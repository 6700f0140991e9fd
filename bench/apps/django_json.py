from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import JsonResponse
from django.urls import path

# No middleware and no database: the row is about the way into and out of the framework.
settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], MIDDLEWARE=[], LOGGING_CONFIG=None, SECRET_KEY="bench")

urlpatterns = [path("", lambda request: JsonResponse({"message": "Hello, World!"}))]
app = get_wsgi_application()
